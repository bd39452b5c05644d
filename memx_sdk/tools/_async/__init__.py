"""What runs tools on a context, in the asynchronous form from which the other is written."""
