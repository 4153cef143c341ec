"""What driftd knows, in SQLite or PostgreSQL: tables, migrations, and the repository that alone reads and writes them."""
