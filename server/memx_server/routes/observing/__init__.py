"""What is noted of each request where the operator asks for it; without, none of it is in the way of a request."""
