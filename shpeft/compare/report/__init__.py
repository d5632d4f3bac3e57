"""Write the report of a comparison: summary, tables, sections and figures."""
