"""The API keys that the operator declares in a list, as the gateway reads them."""
