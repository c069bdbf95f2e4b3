"""The recond server: from raw k-space on the wire to images and their quality figures."""
