"""The stage launcher and where runs keep their files."""
