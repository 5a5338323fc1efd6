"""What a run is: schema, composition of the YAML parts, and the checks. Light: no torch."""
