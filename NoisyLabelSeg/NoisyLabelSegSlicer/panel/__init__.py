"""The panel's sections, one small class each: the only files besides the module's own that know Qt."""
