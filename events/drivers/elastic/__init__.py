"""Elasticsearch and OpenSearch: one way of keeping events, over one transport."""
