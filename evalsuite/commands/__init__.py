"""The commands, one file each: words in, one call, figures out."""
