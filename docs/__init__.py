"""The documentation: pages for people, and the tools that write and build them."""
