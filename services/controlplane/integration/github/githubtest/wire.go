package githubtest

import (
	"cmp"
	"encoding/base64"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"skep/services/controlplane"
)

// object is JSON as GitHub writes it. The shapes are written out here, and not
// taken from the client's library, which a mistake would be shared with.
type object map[string]any

func stamp(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05Z") }

func stampOrNull(t time.Time) any {
	if t.IsZero() {
		return nil
	}
	return stamp(t)
}

func nodeID(kind string, id int64) string {
	return kind + "_" + base64.RawURLEncoding.EncodeToString(fmt.Append(nil, id))
}

func (s *Server) userObject(login string) object {
	url, kind := s.base+"users/"+login, "User"
	if strings.HasSuffix(login, "[bot]") {
		kind = "Bot"
	}
	u := object{
		"login": login, "id": s.user(login), "node_id": nodeID("U", s.user(login)), "avatar_url": s.page + "avatars/" + login, "gravatar_id": "",
		"url": url, "html_url": s.page + login, "type": kind, "site_admin": false,
		"following_url": url + "/following{/other_user}", "gists_url": url + "/gists{/gist_id}", "starred_url": url + "/starred{/owner}{/repo}",
		"events_url": url + "/events{/privacy}", "organizations_url": url + "/orgs",
	}
	for _, name := range []string{"followers", "subscriptions", "repos", "received_events"} {
		u[name+"_url"] = url + "/" + name
	}
	return u
}

func (s *Server) repoURL(r *repository) string  { return s.base + "repos/" + string(r.name) }
func (s *Server) repoPage(r *repository) string { return s.page + string(r.name) }

// Addresses below a repository's, by the name of their field without _url.
var repositoryURLs = map[string]string{
	"forks": "/forks", "keys": "/keys{/key_id}", "collaborators": "/collaborators{/collaborator}", "teams": "/teams", "hooks": "/hooks",
	"issue_events": "/issues/events{/number}", "events": "/events", "assignees": "/assignees{/user}", "branches": "/branches{/branch}",
	"tags": "/tags", "blobs": "/git/blobs{/sha}", "git_tags": "/git/tags{/sha}", "git_refs": "/git/refs{/sha}", "trees": "/git/trees{/sha}",
	"statuses": "/statuses/{sha}", "languages": "/languages", "stargazers": "/stargazers", "contributors": "/contributors",
	"subscribers": "/subscribers", "subscription": "/subscription", "commits": "/commits{/sha}", "git_commits": "/git/commits{/sha}",
	"comments": "/comments{/number}", "issue_comment": "/issues/comments{/number}", "contents": "/contents/{+path}",
	"compare": "/compare/{base}...{head}", "merges": "/merges", "archive": "/{archive_format}{/ref}", "downloads": "/downloads",
	"issues": "/issues{/number}", "pulls": "/pulls{/number}", "milestones": "/milestones{/number}",
	"notifications": "/notifications{?since,all,participating}", "labels": "/labels{/name}", "releases": "/releases{/id}", "deployments": "/deployments",
}

func (s *Server) repositoryObject(r *repository) object {
	url, page := s.repoURL(r), s.repoPage(r)
	o := object{
		"id": r.id, "node_id": nodeID("R", r.id), "name": r.short(), "full_name": r.name, "private": true, "visibility": "private",
		"owner": s.userObject(r.owner()), "html_url": page, "description": nil, "fork": r.forkOf != "", "url": url,
		"created_at": stamp(s.now()), "updated_at": stamp(s.now()), "pushed_at": stamp(s.now()),
		"git_url": "git" + strings.TrimPrefix(page, "http") + ".git", "ssh_url": "git@127.0.0.1:" + string(r.name) + ".git", "clone_url": page + ".git", "svn_url": page,
		"homepage": nil, "language": nil, "mirror_url": nil, "license": nil, "default_branch": defaultBranch,
		"topics": []string{}, "custom_properties": object{},
	}
	for name, path := range repositoryURLs {
		o[name+"_url"] = url + path
	}
	for _, name := range []string{"size", "stargazers_count", "watchers_count", "forks_count", "open_issues_count", "forks", "open_issues", "watchers"} {
		o[name] = 0
	}
	for _, name := range []string{"has_issues", "has_projects", "has_downloads", "has_wiki", "has_pages", "has_discussions", "archived", "disabled", "allow_forking", "is_template", "web_commit_signoff_required"} {
		o[name] = name == "has_issues"
	}
	return o
}

func (s *Server) labelObject(r *repository, name string) object {
	return object{"id": 1, "node_id": nodeID("LA", 1), "url": s.repoURL(r) + "/labels/" + name, "name": name, "color": "ededed", "default": false, "description": nil}
}

func (s *Server) labelObjects(r *repository, p *pull) []object {
	labels := make([]object, len(p.labels))
	for i, name := range p.labels {
		labels[i] = s.labelObject(r, name)
	}
	return labels
}

func (p *pull) state() string {
	if p.open {
		return "open"
	}
	return "closed"
}

// association is what an author is to a repository.
func (r *repository) association(login string) string {
	switch {
	case login == r.owner():
		return "OWNER"
	case slices.Contains([]string{"admin", "maintain", "write", "triage", "read"}, r.roles[login]):
		return "COLLABORATOR"
	}
	return "NONE"
}

func (s *Server) pullObject(r *repository, p *pull) object {
	url, issue := fmt.Sprintf("%s/pulls/%d", s.repoURL(r), p.number), fmt.Sprintf("%s/issues/%d", s.repoURL(r), p.number)
	page, statuses := fmt.Sprintf("%s/pull/%d", s.repoPage(r), p.number), s.repoURL(r)+"/statuses/"+string(p.sha)
	from := s.repositories[p.headRepo]
	link := func(address string) object { return object{"href": address} }
	return object{
		"url": url, "id": p.id, "node_id": nodeID("PR", p.id), "html_url": page, "diff_url": page + ".diff", "patch_url": page + ".patch", "issue_url": issue,
		"number": p.number, "state": p.state(), "locked": false, "title": p.title, "user": s.userObject(p.author), "body": nil,
		"created_at": stamp(p.created), "updated_at": stamp(s.now()), "closed_at": stampOrNull(p.closed), "merged_at": nil, "merge_commit_sha": nil,
		"assignee": nil, "assignees": []object{}, "requested_reviewers": []object{}, "requested_teams": []object{}, "labels": s.labelObjects(r, p), "milestone": nil,
		"commits_url": url + "/commits", "review_comments_url": url + "/comments", "review_comment_url": s.repoURL(r) + "/pulls/comments{/number}",
		"comments_url": issue + "/comments", "statuses_url": statuses, "author_association": r.association(p.author), "auto_merge": nil, "active_lock_reason": nil,
		"draft": false, "merged": false, "mergeable": nil, "rebaseable": nil, "mergeable_state": "unknown", "merged_by": nil, "maintainer_can_modify": false,
		"comments": len(p.comments), "review_comments": 0, "commits": 1, "additions": 1, "deletions": 0, "changed_files": 1,
		"head": object{"label": from.owner() + ":" + string(p.head), "ref": p.head, "sha": p.sha, "user": s.userObject(from.owner()), "repo": s.repositoryObject(from)},
		"base": object{"label": r.owner() + ":" + string(p.base), "ref": p.base, "sha": r.heads[p.base], "user": s.userObject(r.owner()), "repo": s.repositoryObject(r)},
		"_links": object{
			"self": link(url), "html": link(page), "issue": link(issue), "comments": link(issue + "/comments"), "review_comments": link(url + "/comments"),
			"review_comment": link(s.repoURL(r) + "/pulls/comments{/number}"), "commits": link(url + "/commits"), "statuses": link(statuses),
		},
	}
}

// issueObject is a pull request as the issue that it is too.
func (s *Server) issueObject(r *repository, p *pull) object {
	url, page := fmt.Sprintf("%s/issues/%d", s.repoURL(r), p.number), fmt.Sprintf("%s/pull/%d", s.repoPage(r), p.number)
	return object{
		"url": url, "repository_url": s.repoURL(r), "labels_url": url + "/labels{/name}", "comments_url": url + "/comments", "events_url": url + "/events",
		"html_url": page, "id": p.id, "node_id": nodeID("PR", p.id), "number": p.number, "title": p.title, "user": s.userObject(p.author),
		"labels": s.labelObjects(r, p), "state": p.state(), "locked": false, "assignee": nil, "assignees": []object{}, "milestone": nil, "comments": len(p.comments),
		"created_at": stamp(p.created), "updated_at": stamp(s.now()), "closed_at": stampOrNull(p.closed), "author_association": r.association(p.author),
		"active_lock_reason": nil, "draft": false, "body": nil, "reactions": reactions(url, nil), "timeline_url": url + "/timeline",
		"performed_via_github_app": nil, "state_reason": nil,
		"pull_request": object{"url": fmt.Sprintf("%s/pulls/%d", s.repoURL(r), p.number), "html_url": page, "diff_url": page + ".diff", "patch_url": page + ".patch", "merged_at": nil},
	}
}

func reactions(url string, given []reaction) object {
	o := object{"url": url + "/reactions", "total_count": len(given)}
	for _, content := range []string{"+1", "-1", "laugh", "hooray", "confused", "heart", "rocket", "eyes"} {
		n := 0
		for _, r := range given {
			if r.content == content {
				n++
			}
		}
		o[content] = n
	}
	return o
}

func (s *Server) commentObject(r *repository, p *pull, c *comment) object {
	url := fmt.Sprintf("%s/issues/comments/%d", s.repoURL(r), c.id)
	o := object{
		"url": url, "html_url": fmt.Sprintf("%s/pull/%d#issuecomment-%d", s.repoPage(r), p.number, c.id), "issue_url": fmt.Sprintf("%s/issues/%d", s.repoURL(r), p.number),
		"id": c.id, "node_id": nodeID("IC", c.id), "user": s.userObject(c.author), "created_at": stamp(c.created), "updated_at": stamp(c.updated),
		"author_association": r.association(c.author), "body": c.body, "reactions": reactions(url, c.reactions), "performed_via_github_app": nil,
	}
	if c.app {
		o["performed_via_github_app"] = s.appObject()
	}
	return o
}

func (s *Server) appObject() object {
	app := s.options.App
	return object{
		"id": app.ID, "slug": app.Slug, "node_id": nodeID("A", app.ID), "name": app.Slug, "owner": s.userObject("skep-hq"), "description": nil,
		"external_url": s.page, "html_url": s.page + "apps/" + app.Slug, "created_at": stamp(s.now()), "updated_at": stamp(s.now()),
	}
}

func (s *Server) checkRunObject(r *repository, run *checkRun) object {
	url := fmt.Sprintf("%s/check-runs/%d", s.repoURL(r), run.ID)
	var conclusion, completed any
	if run.Conclusion != "" {
		conclusion, completed = run.Conclusion, stamp(s.now())
	}
	pulls, branch := s.checkedPulls(r, run.SHA)
	return object{
		"id": run.ID, "node_id": nodeID("CR", run.ID), "head_sha": run.SHA, "external_id": run.ExternalID, "url": url, "html_url": s.repoPage(r) + "/runs/" + fmt.Sprint(run.ID),
		"details_url": cmp.Or(run.DetailsURL, s.page+"apps/"+s.options.App.Slug), "status": run.Status, "conclusion": conclusion, "started_at": stamp(s.now()), "completed_at": completed, "name": run.Name,
		"app": s.appObject(), "pull_requests": pulls,
		"check_suite": object{
			"id": run.ID, "node_id": nodeID("CS", run.ID), "head_branch": branch, "head_sha": run.SHA, "status": run.Status, "conclusion": conclusion,
			"url": fmt.Sprintf("%s/check-suites/%d", s.repoURL(r), run.ID), "before": nil, "after": run.SHA, "pull_requests": pulls, "app": s.appObject(),
			"created_at": stamp(s.now()), "updated_at": stamp(s.now()),
		},
		"output": object{
			"title": run.Title, "summary": run.Summary, "text": nil, "annotations_count": len(run.Annotations), "annotations_url": url + "/annotations",
		},
	}
}

// checkedPulls are the open pull requests that a commit is the head of, without
// those of forks, and its branch.
func (s *Server) checkedPulls(r *repository, c controlplane.Commit) (pulls []object, branch any) {
	repo := object{"id": r.id, "url": s.repoURL(r), "name": r.short()}
	pulls = []object{}
	for b, head := range r.heads {
		if head == c {
			branch = b
		}
	}
	for _, number := range slices.Sorted(maps.Keys(r.pulls)) {
		p := r.pulls[number]
		if !p.open || p.sha != c || p.headRepo != r.name {
			continue
		}
		pulls = append(pulls, object{
			"url": fmt.Sprintf("%s/pulls/%d", s.repoURL(r), p.number), "id": p.id, "number": p.number,
			"head": object{"ref": p.head, "sha": p.sha, "repo": repo}, "base": object{"ref": p.base, "sha": r.heads[p.base], "repo": repo},
		})
		branch = p.head
	}
	return pulls, branch
}
