"""Our Api, Blueprint, Schema and converters: the only importer of flask-smorest."""
