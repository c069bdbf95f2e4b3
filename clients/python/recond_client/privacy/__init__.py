"""De-identification of raw data: what goes, what stays, and the encrypted map that brings it back."""
