"""Where recordings come from: each source delivers `Recording`s, that is video files and what happens in them."""
