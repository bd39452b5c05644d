"""What memX promises: reads, transactions, schemas, access, the feed. No I/O library here."""
