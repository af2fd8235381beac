"""The process `policyd`: tables to proxies, one stream each (design §8)."""
