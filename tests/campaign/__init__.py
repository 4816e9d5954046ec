"""Campaign of faults: kills, hostile files, full disks, and cases of other programs.

``make campaign`` runs it; see ``__main__.py`` for its options.
"""
