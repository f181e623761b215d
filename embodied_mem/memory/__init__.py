"""The memory: a sparse octree, a scene graph and episodes behind one facade."""
