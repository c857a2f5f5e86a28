"""An attack with malformed requests: made from a seed, sent, and watched. For the gateway alone and a whole rack."""
