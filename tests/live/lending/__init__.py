"""The library of the tests for REST framework, served: every view as a tool, and two functions with serializers."""
