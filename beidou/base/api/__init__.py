"""The API bases: a viewset is a queryset, a serializer and a filterset; everything else is here.

Several modules, because DRF imports the classes that its settings name while its own views load.
"""
