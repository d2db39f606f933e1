package githubtest

import (
	"encoding/json"
	"net/http"
	"slices"
	"unicode/utf8"

	"skep/services/controlplane"
)

// deployment is one, with its statuses, the oldest first.
type deployment struct {
	id                      int64
	sha                     controlplane.Commit
	ref, task, environment  string
	payload                 json.RawMessage
	transient, isProduction bool
	creator                 string
	statuses                []deploymentStatus
}

type deploymentStatus struct {
	id                           int64
	state, description, log, url string
}

// Deployment is one as the page of an environment shows it.
type Deployment struct {
	Commit      controlplane.Commit
	Environment string
	Task        string
	Transient   bool
	States      []string // the oldest first
	URL         string   // of the last status
}

// Deployments are those of a repository, the oldest first.
func (s *Server) Deployments(name controlplane.Repository) []Deployment {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []Deployment
	for _, d := range s.repositories[name].deploys {
		out := Deployment{Commit: d.sha, Environment: d.environment, Task: d.task, Transient: d.transient}
		for _, one := range d.statuses {
			out.States, out.URL = append(out.States, one.state), one.url
		}
		all = append(all, out)
	}
	return all
}

func (s *Server) listDeployments(c *call) answer {
	var found []*deployment
	for _, d := range slices.Backward(c.repo.deploys) {
		fits := func(parameter, value string) bool {
			want := c.FormValue(parameter)
			return want == "" || want == "none" || want == value
		}
		if fits("sha", string(d.sha)) && fits("ref", d.ref) && fits("task", d.task) && fits("environment", d.environment) {
			found = append(found, d)
		}
	}
	return paged(s, c, found, func(page []*deployment) any {
		out := make([]object, len(page))
		for i, d := range page {
			out[i] = s.deploymentObject(d)
		}
		return out
	})
}

func (s *Server) deploymentObject(d *deployment) object {
	return object{
		"id": d.id, "sha": d.sha, "ref": d.ref, "task": d.task, "payload": d.payload, "environment": d.environment,
		"original_environment": d.environment, "transient_environment": d.transient, "production_environment": d.isProduction,
		"creator": s.userObject(d.creator), "created_at": stamp(s.now()), "updated_at": stamp(s.now()),
	}
}

func (s *Server) createDeployment(c *call) answer {
	in := struct {
		Ref              string          `json:"ref"`
		Task             string          `json:"task"`
		AutoMerge        *bool           `json:"auto_merge"`
		RequiredContexts *[]string       `json:"required_contexts"`
		Payload          json.RawMessage `json:"payload"`
		Environment      string          `json:"environment"`
		Transient        bool            `json:"transient_environment"`
		Production       *bool           `json:"production_environment"`
	}{Task: "deploy", Environment: "production", Payload: json.RawMessage(`""`)}
	if a, fine := c.decode(&in); !fine {
		return a
	}
	sha := controlplane.Commit(in.Ref)
	if _, err := controlplane.ParseCommit(in.Ref); err != nil || !s.git.repository(string(c.repo.name)).Has(c.Context(), sha) {
		return problem(http.StatusUnprocessableEntity, "No ref found for: %s", in.Ref)
	}
	// By default GitHub wants every check of the commit to have passed first.
	if in.RequiredContexts == nil || len(*in.RequiredContexts) > 0 {
		for _, run := range c.repo.checks {
			if run.SHA == sha && run.Conclusion != "success" {
				return problem(http.StatusConflict, "Conflict: Commit status checks failed for %s.", in.Ref)
			}
		}
	}
	d := &deployment{
		id: s.id(), sha: sha, ref: in.Ref, task: in.Task, environment: in.Environment, payload: in.Payload,
		transient: in.Transient, isProduction: in.Production == nil && in.Environment == "production" || in.Production != nil && *in.Production,
		creator: c.who.login,
	}
	c.repo.deploys = append(c.repo.deploys, d)
	return created(s.deploymentObject(d))
}

func (c *call) deployment() *deployment {
	i := slices.IndexFunc(c.repo.deploys, func(d *deployment) bool { return d.id == c.number("id") })
	if i < 0 {
		return nil
	}
	return c.repo.deploys[i]
}

func (s *Server) listDeploymentStatuses(c *call) answer {
	d := c.deployment()
	if d == nil {
		return missing()
	}
	newest := slices.Clone(d.statuses)
	slices.Reverse(newest)
	return paged(s, c, newest, func(page []deploymentStatus) any {
		out := make([]object, len(page))
		for i, one := range page {
			out[i] = s.deploymentStatusObject(d, one)
		}
		return out
	})
}

func (s *Server) deploymentStatusObject(d *deployment, one deploymentStatus) object {
	return object{
		"id": one.id, "state": one.state, "description": one.description, "environment": d.environment, "environment_url": one.url,
		"log_url": one.log, "target_url": one.log, "created_at": stamp(s.now()), "updated_at": stamp(s.now()),
	}
}

func (s *Server) createDeploymentStatus(c *call) answer {
	d := c.deployment()
	if d == nil {
		return missing()
	}
	var in struct {
		State          string `json:"state"`
		Description    string `json:"description"`
		LogURL         string `json:"log_url"`
		EnvironmentURL string `json:"environment_url"`
		AutoInactive   *bool  `json:"auto_inactive"`
	}
	if a, fine := c.decode(&in); !fine {
		return a
	}
	switch {
	case !slices.Contains([]string{"error", "failure", "inactive", "in_progress", "queued", "pending", "success"}, in.State):
		return invalid("DeploymentStatus", "state", "state is not included in the list")
	case utf8.RuneCountInString(in.Description) > 140:
		return invalid("DeploymentStatus", "description", "description is too long (maximum is 140 characters)")
	case in.LogURL != "" && !web(in.LogURL), in.EnvironmentURL != "" && !web(in.EnvironmentURL):
		return invalid("DeploymentStatus", "environment_url", "environment_url must use http(s) scheme")
	}
	one := deploymentStatus{id: s.id(), state: in.State, description: in.Description, log: in.LogURL, url: in.EnvironmentURL}
	d.statuses = append(d.statuses, one)
	if in.State == "success" && (in.AutoInactive == nil || *in.AutoInactive) {
		for _, older := range c.repo.deploys {
			if older.id < d.id && older.environment == d.environment && !older.transient && !older.isProduction {
				older.statuses = append(older.statuses, deploymentStatus{id: s.id(), state: "inactive"})
			}
		}
	}
	return created(s.deploymentStatusObject(d, one))
}
