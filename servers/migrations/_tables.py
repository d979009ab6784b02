"""The operation that makes the tables of a new database together. This is no migration, says the underscore."""

from django.db.migrations.operations.base import Operation, OperationCategory


class CreateModels(Operation):
    """Makes the tables of many models, whose fields may refer to each other in a circle.

    With a CreateModel for each, Django would render most models again for each table, which took most of the
    time. Here all of them are rendered once.

    There is no way back: to reach a migration that a squashed one replaces, Django would drop the tables of the
    other apps, and fail only then. `migrate --fake-initial` does not recognize these tables.
    """

    category = OperationCategory.ADDITION
    reversible = False

    def __init__(self, operations):
        self.operations = operations

    def state_forwards(self, app_label, state):
        """Add the models. They are rendered by the first operation that needs them."""
        vars(state).pop('apps', None)
        for operation in self.operations:
            operation.state_forwards(app_label, state)

    def database_forwards(self, app_label, schema_editor, from_state, to_state):
        """Make the tables. A reference to a table that comes later is allowed on both engines.

        What Django leaves for the end of a migration is done here, so that it records the migration in the same
        transaction. Otherwise that takes a step for each migration that is replaced, and a kill between them would
        leave a database that can be neither used nor migrated.
        """
        for operation in self.operations:
            operation.database_forwards(app_label, schema_editor, from_state, to_state)
        for statement in schema_editor.deferred_sql:
            schema_editor.execute(statement, None)
        schema_editor.deferred_sql.clear()

    def __repr__(self):
        return f'<{self.describe()}>'

    def describe(self):
        """Return what `migrate --plan` shows."""
        return f'Create {len(self.operations)} models'
