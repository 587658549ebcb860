"""What a run would take, before it starts: parameters, memory by layout, operations, hours, money, disk."""
