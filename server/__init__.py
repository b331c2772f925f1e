"""The challenge server: submissions in, sandboxed matches, live boards out.

Importing this package loads nothing heavy; ``server.app.create_app`` builds the web application.
"""
