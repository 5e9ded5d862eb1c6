"""Elasticsearch and OpenSearch: one way of keeping events, each by its own client."""
