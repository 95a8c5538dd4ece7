"""Side-by-side measurements. They print tables and assert nothing."""
