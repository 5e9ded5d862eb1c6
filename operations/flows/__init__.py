"""AutoOperationTasks: the whole way in one click, as a durable graph above operations.

``models``     the rows: task, its machines, its steps, the parts of a step, work orders
``kinds``      what a step can be: an operation, a work order, a wait; one module each
``catalog``    the names that manifests and templates use, and the ready-made templates
``graph``      what follows what
``start``      from a wish to rows
``advance``    from one state to the next, whenever something has happened
``control``    what a person may do to a task, and decisions on work orders
``approval``   what exactly was approved, and whether it is still that
``results``    what became of the machines of a step that is an operation
``undoing``    which machines a compensation is for, and how those begin anew
"""
