package stack

import (
	"slices"
	"strings"

	"github.com/compose-spec/compose-go/v2/types"

	"skep/generator/problem"
	"skep/networks"
	"skep/secrets"
)

// Stack is one stack file.
type Stack struct {
	Name     Name
	Tier     Tier
	File     string // relative to the project, with slashes
	Services []*Service

	// Network is the stack's own overlay, Compose's network "default".
	Network OwnNetwork
	// Extra are further overlays of the stack's own, by their Compose key.
	Extra map[string]OwnNetwork
	// External maps Compose keys of networks to shared networks.
	External map[string]networks.Name

	Volumes map[string]types.VolumeConfig
	Configs map[string]FileObject // declared under `configs`, sorted by key
	Secrets map[string]types.SecretConfig

	// Preview is set when the stack is a preview of another.
	Preview *Preview

	Pos       problem.Position
	Positions Positions
}

// OwnNetwork is an overlay that belongs to one stack.
type OwnNetwork struct {
	Internal   bool
	Encrypted  bool
	Attachable bool
	Subnet     string // CIDR, empty: from the pool
}

// FileObject is a config of the stack file, read.
type FileObject struct {
	External bool
	Name     string // of an external config
	Source   string // file name, for the bundle
	Content  []byte
}

// Service is one service of a stack.
type Service struct {
	Ref     ServiceRef
	Compose types.ServiceConfig

	Routes    []Route
	Uses      []Use
	DockerAPI *DockerAPI
	Files     []File
	Job       *Job
	Pin       []string // placement constraints
	Homepage  *Homepage
	Monitor   *Monitor
	Metrics   *Metrics
	Egress    bool

	// Entrypoint is x-entrypoint: what the image runs by itself.
	Entrypoint []string
	// References are the environment variables that hold secrets, by name.
	References []SecretVariable

	// Relative are the bind mounts, by index into Compose.Volumes, whose source
	// lies in the project or in somebody's home folder.
	Relative []int

	Waivers map[string]Waiver // by rule

	Pos       problem.Position
	positions Positions
	written   ServiceName // what the file calls it
}

// NewService makes a service that finds positions of its keys in positions.
func NewService(ref ServiceRef, compose types.ServiceConfig, positions Positions) *Service {
	s := &Service{Ref: ref, Compose: compose, positions: positions, written: ref.Service, Waivers: map[string]Waiver{}}
	s.Pos = s.At()
	return s
}

// As is a copy of the service under another name, which still knows where its
// keys stand. What it points to is shared.
func (s *Service) As(ref ServiceRef) *Service {
	out := *s
	out.Ref = ref
	return &out
}

// At is where a key of the service stands, or the nearest key around it.
func (s *Service) At(path ...string) problem.Position {
	return s.positions.At(append([]string{"services", string(s.written)}, path...)...)
}

// Service finds a service of the stack by name.
func (s *Stack) Service(name ServiceName) (*Service, bool) {
	i := slices.IndexFunc(s.Services, func(v *Service) bool { return v.Ref.Service == name })
	if i < 0 {
		return nil, false
	}
	return s.Services[i], true
}

// DockerProxy is the name of the service's docker proxy, and of the network
// that the two share.
func (s *Service) DockerProxy() ServiceName { return s.Ref.Service + "-docker-proxy" }

// Image is the image's name without a digest.
func (s *Service) Image() string {
	name, _, _ := strings.Cut(s.Compose.Image, "@")
	return name
}

// ImageName is the last part of an image's name, without tag and digest.
func ImageName(image string) string {
	name, _, _ := strings.Cut(image, "@")
	name = name[strings.LastIndex(name, "/")+1:]
	name, _, _ = strings.Cut(name, ":")
	return strings.ToLower(name)
}

// Use is an attachment to a shared network.
type Use struct {
	Network networks.Name
	Pos     problem.Position
}

// SecretVariable is an environment variable whose value comes from the secret
// store.
type SecretVariable struct {
	Name  string
	Value secrets.Template
	// AsFile says that the variable asks for a path: FOO_FILE, FILE__FOO.
	AsFile bool
	Pos    problem.Position
}

// Waiver silences a rule for a service. Its reason is never empty.
type Waiver struct {
	Reason string
	Pos    problem.Position
}

// Positions knows where each key of a file stands.
type Positions struct {
	file  *string
	index map[string]place
}

// place is a position, packed: a project keeps those of all its files.
type place struct {
	file         *string
	line, column uint32
}

func placeOf(pos problem.Position, file *string) place {
	if pos.File != *file {
		file = &pos.File
	}
	return place{file: file, line: uint32(pos.Line), column: uint32(pos.Column)}
}

func (p place) position() problem.Position {
	return problem.Position{File: *p.file, Line: int(p.line), Column: int(p.column)}
}

// NewPositions starts an index for a file.
func NewPositions(file string) Positions {
	return Positions{file: &file, index: map[string]place{}}
}

const pathSeparator = "\x00"

// Set records where a path stands; the first record stays.
func (p Positions) Set(pos problem.Position, path ...string) {
	key := strings.Join(path, pathSeparator)
	if _, ok := p.index[key]; !ok {
		p.index[key] = placeOf(pos, p.file)
	}
}

// At is where a path stands; a path that is not there is looked up by its
// parents.
func (p Positions) At(path ...string) problem.Position {
	for n := len(path); n > 0; n-- {
		if pos, ok := p.index[strings.Join(path[:n], pathSeparator)]; ok {
			return pos.position()
		}
	}
	if p.file == nil {
		return problem.Position{}
	}
	return problem.Position{File: *p.file, Line: 1, Column: 1}
}

// Has reports whether the file says something at exactly this path.
func (p Positions) Has(path ...string) bool {
	_, ok := p.index[strings.Join(path, pathSeparator)]
	return ok
}

// Adopt takes over the positions below a path of another file, where this one
// says nothing itself: what `include` and `extends` bring in.
func (p Positions) Adopt(from Positions, fromPath, toPath []string) {
	prefix := strings.Join(fromPath, pathSeparator)
	to := strings.Join(toPath, pathSeparator)
	for key, pos := range from.index {
		rest, ok := strings.CutPrefix(key, prefix)
		if !ok || (rest != "" && prefix != "" && !strings.HasPrefix(rest, pathSeparator)) {
			continue
		}
		if prefix == "" && to != "" {
			rest = pathSeparator + rest
		}
		if _, ok := p.index[to+rest]; !ok {
			p.index[to+rest] = pos
		}
	}
}
