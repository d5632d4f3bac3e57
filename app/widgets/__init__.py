"""Parts that several pages share: guard, session, layout, tables and the viewer."""
