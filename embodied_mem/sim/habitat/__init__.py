"""Scenes that habitat-sim opens, as worlds: exported houses, HM3D, HSSD, MP3D, Replica."""
