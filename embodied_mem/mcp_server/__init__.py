"""A memory as tools and resources of the Model Context Protocol, for planners that are language models."""
