"""The tracks of the challenge, one file each: rules as data, read by server, CLI and documents."""
