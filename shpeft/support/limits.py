"""Bounds on what files may ask of this computer: a small file must not do large harm."""

DOCUMENT_BYTES = 2**20
"""Most bytes of a YAML or JSON document; the largest plan of a comparison has 22 kB."""

DOCUMENT_DEPTH = 32
"""Most levels of nesting in a document; a run's configuration has 3."""

DOCUMENT_NODES = 50_000
"""Most keys and values of a YAML document."""

IMAGE_BYTES = 2**29
"""Most bytes of an image file; a whole mammogram of 16 bits has 50 MB."""

TABLE_CELLS = 20_000_000
"""Most rows times columns of a Parquet table: repeated values take no space in the file, and all of it in memory."""

TABLE_BYTES = 2**30
"""Most bytes of the texts of a Parquet table in memory, if each were as long as the longest."""

TABLE_COLUMNS = 10_000
"""Most columns of a table: a line without end would take minutes."""

JPEG_SCANS = 100
"""Most passes over a JPEG; progressive ones have about ten, and each costs the time of an image."""

RUN_FILE_BYTES = 2**30
"""Most bytes of one file of a run folder, and of an unpacked import."""
