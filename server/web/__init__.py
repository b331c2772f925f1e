"""The pages: rendered on the server, live where the browser can, whole without JavaScript."""
