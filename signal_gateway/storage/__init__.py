"""The only folder with SQL."""
