package api

import (
	"context"
	"time"

	"skep/secrets"
	"skep/services/controlplane"
	"skep/services/controlplane/store"
)

// Store keeps what the API shows and changes.
type Store interface {
	Access
	Integrations
	Sources
	Projects
	Deliveries
	Runs
	Tasks
	Schedules
	Events
	Ping(context.Context) error
}

var _ Store = (*store.Store)(nil)

// Access is who may do what, and who did.
type Access interface {
	// Authenticate is ErrDenied for a token that is not, or not any more, good.
	Authenticate(ctx context.Context, shown string) (controlplane.Token, error)
	ListTokens(context.Context, store.Page) ([]controlplane.Token, int64, error)
	RevokeToken(context.Context, controlplane.Name) error
	Audit(context.Context, controlplane.Audit) error
	ListAudit(ctx context.Context, actor string, page store.Page) ([]controlplane.Audit, int64, error)
}

// Integrations has credentials that come out for one operation alone.
type Integrations interface {
	PutIntegration(context.Context, controlplane.Integration, map[string]secrets.Value) (controlplane.Integration, error)
	Integration(context.Context, controlplane.Provider, controlplane.Name) (controlplane.Integration, error)
	ListIntegrations(context.Context, controlplane.Provider) ([]controlplane.Integration, error)
	DeleteIntegration(context.Context, controlplane.Provider, controlplane.Name) error
	IntegrationTested(context.Context, controlplane.Provider, controlplane.Name) error
	Credentials(ctx context.Context, p controlplane.Provider, n controlplane.Name, use func(map[string]secrets.Value) error) error
}

// Sources are where deliveries come from.
type Sources interface {
	PutSource(context.Context, controlplane.Source) (controlplane.Source, error)
	// ChangeSource leaves the secret as it is.
	ChangeSource(context.Context, controlplane.Source) (controlplane.Source, error)
	Source(context.Context, controlplane.Provider, controlplane.Name) (controlplane.Source, error)
	ListSources(context.Context) ([]controlplane.Source, error)
	DeleteSource(context.Context, controlplane.Provider, controlplane.Name) error
}

// Projects bind clusters to repositories.
type Projects interface {
	PutProject(context.Context, controlplane.Project) (controlplane.Project, error)
	Project(context.Context, controlplane.Name) (controlplane.Project, error)
	ListProjects(context.Context) ([]controlplane.Project, error)
	DeleteProject(context.Context, controlplane.Name) error
}

// Deliveries are webhooks that came in.
type Deliveries interface {
	ListDeliveries(context.Context, store.DeliveryFilter, store.Page) ([]controlplane.Delivery, int64, error)
	Delivery(ctx context.Context, id int64) (controlplane.Delivery, error)
	Redeliver(ctx context.Context, id int64) error
}

// Runs are work, with what it left behind.
type Runs interface {
	Start(context.Context, controlplane.Run) (id controlplane.RunID, created bool, err error)
	ListRuns(context.Context, store.RunFilter, store.Page) ([]controlplane.Run, int64, error)
	Run(context.Context, controlplane.RunID) (controlplane.Run, error)
	Cancel(ctx context.Context, id controlplane.RunID, reason string) error
	ReadLog(ctx context.Context, id controlplane.RunID, after, limit int) ([]controlplane.LogLine, error)
	ListArtefacts(context.Context, controlplane.RunID) ([]controlplane.Artefact, error)
	Artefact(ctx context.Context, id controlplane.RunID, name string) (controlplane.Artefact, []byte, error)
}

// Tasks are defined work.
type Tasks interface {
	PutTask(context.Context, controlplane.Task) (controlplane.Task, error)
	Task(context.Context, controlplane.Name) (controlplane.Task, error)
	ListTasks(ctx context.Context, after controlplane.Name, limit int) ([]controlplane.Task, error)
	DeleteTask(context.Context, controlplane.Name) error
}

// Schedules start tasks.
type Schedules interface {
	PutSchedule(context.Context, controlplane.Schedule) (controlplane.Schedule, error)
	Schedule(context.Context, controlplane.Name) (controlplane.Schedule, error)
	ListSchedules(ctx context.Context, after controlplane.Name, limit int) ([]controlplane.Schedule, error)
	DeleteSchedule(context.Context, controlplane.Name) error
}

// Events is the durable feed.
type Events interface {
	// Since returns events after one, oldest first; without topics, all.
	Since(ctx context.Context, topics []string, last int64, limit int) ([]controlplane.Event, error)
	// Listen calls f with the newest event's id: at once, and when there may be
	// newer ones. It returns when ctx ends.
	Listen(ctx context.Context, f func(id int64)) error
}

// timestamp is nil for a time that has not come.
func timestamp(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC()
	return &t
}
