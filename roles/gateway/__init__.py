"""The OpenAI-compatible endpoint: HAProxy from the distribution, which sends each request to the model it names."""
