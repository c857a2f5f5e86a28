"""Known vulnerabilities in what the locks pin, for operators who are online: `make audit`."""
