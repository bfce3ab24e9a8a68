"""Reading sound and images; every error names the file."""
