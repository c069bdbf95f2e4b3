"""Networks and classical methods that solve one posed problem together: their mean, and trials that hold samples out."""
