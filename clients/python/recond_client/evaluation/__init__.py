"""Scores models on folders of fastMRI files, as the fastMRI challenge did, through a service."""
