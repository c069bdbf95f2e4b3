"""Linear operators that compose: `linear` has the algebra, the other modules what encodings are made of."""
