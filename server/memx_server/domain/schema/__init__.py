"""JSON Schemas: registering, caching and validating with them."""
