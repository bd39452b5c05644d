"""The table of operations, with their requests, responses, errors and OpenAPI document."""
