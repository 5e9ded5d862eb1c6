"""Templates of the site: written in the page or by the API, kept in versions that never change.

``models``   a template and its versions
``steps``    what a step can be here, and the parameters that it has, as a schema
``content``  what a version holds: read, checked with every mistake at its place, shown as YAML
``finding``  a template by its name, ready-made or of the site
``saving``   new templates and versions, withdrawn and offered again
``editor``   the form in which one is written
"""
