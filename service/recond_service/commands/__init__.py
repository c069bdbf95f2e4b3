"""Commands of the server that the `recond` command line picks up."""
