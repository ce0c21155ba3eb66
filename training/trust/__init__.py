"""Which labels DALE distrusts: omega of every case, the least trusted regions, and how well they find planted noise."""
