"""Deciding what to do: recipes, target sizes, and the pipeline that follows them."""
