"""The routes of projects and of what is kept with them; `routes` has all the others."""

from hive.api import profiles, projects
from hive.api import replies as r
from hive.api.openapi import Route


def project_routes(root: str) -> list[Route]:
    """Return them, below this path, in the order the docs show them."""
    project = f"{root}/projects/{{project}}"
    return [
        Route(
            "GET",
            f"{root}/projects",
            projects.list_,
            "The projects, by name",
            projects.ProjectsQuery,
            reply=r.Page[r.Project],
        ),
        Route(
            "POST",
            f"{root}/projects",
            projects.create,
            "Make a project",
            body=projects.NewProject,
            reply=r.Project,
            status=201,
        ),
        Route("GET", project, projects.show, "One project", reply=r.Project),
        Route(
            "PATCH",
            project,
            projects.edit,
            "Change a project",
            body=projects.EditProject,
            reply=r.Project,
        ),
        Route("DELETE", project, projects.delete, "Delete a project", reply=r.Deleted),
        Route(
            "GET",
            f"{project}/nodes",
            projects.nodes,
            "The nodes that have a checkout of it",
            reply=r.Page[r.Node],
        ),
        Route(
            "GET",
            f"{project}/profiles",
            profiles.list_,
            "Its profiles, by name",
            reply=r.Page[r.ProjectProfile],
        ),
        Route(
            "PUT",
            f"{project}/profiles/{{name}}",
            profiles.set_,
            "Set a profile of it",
            body=profiles.SetProfile,
            reply=r.ProjectProfile,
        ),
        Route(
            "DELETE",
            f"{project}/profiles/{{name}}",
            profiles.remove,
            "Take a profile of it away",
            reply=r.ProjectProfile,
        ),
    ]
