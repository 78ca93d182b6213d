"""The database: the schema, the statements, and the stores that execute them."""
