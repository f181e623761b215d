"""What a user can type: one file per verb of `embodied-mem`, each a plain function as well."""
