"""A run's model for other programs: over HTTP, and beside an archive that speaks DICOMweb."""
