//! A loaded module inside the worker process: its tokens, their lanes, and climbing the ladder.
//!
//! A token's anchor session is opened first and only ever logs in: login is per token, and a logout or the end of the last session
//! would kill the handles of all others. Work runs in lanes, a session each, which are what gets replaced. `C_Finalize` hits all
//! tokens of the module, so it waits until every operation has ended, and closes every session before; a stale session closed
//! afterwards could close a new one of the same number.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::{Duration, Instant};

use cryptoki::context::Pkcs11;
use cryptoki::error::{Error as CkError, RvError};
use cryptoki::session::{Session, UserType};
use cryptoki::slot::Slot;
use cryptoki::types::AuthPin;

use super::error::TokenError;
use super::ladder::{Fault, Rung, raw_fault, rv};
use super::lane::Lane;
use super::sys::{self, RawModule};
use super::uri::Uri;
use super::wire::{UnwrapTemplate, WrapWith};
use crate::secret::Pin;

/// A token or key that is not there does not make the module start again more often than this while other tokens are open: it
/// disturbs them.
const BETWEEN_SEARCHES: Duration = Duration::from_secs(1);

/// A loaded module.
pub(super) struct Module {
    path: PathBuf,
    parameters: Option<CString>,
    pub(super) context: Pkcs11,
    pub(super) raw: Arc<RawModule>,
    /// Held shared by operations, alone to initialise again.
    gate: RwLock<Epoch>,
    seats: Mutex<BTreeMap<u32, Arc<Seat>>>,
    /// Told when a PIN is rejected in a login that nobody asked for.
    rejected: Box<dyn Fn(u32, TokenError) + Send + Sync>,
}

/// How often the module was initialised, and when last.
#[derive(Clone, Copy)]
struct Epoch {
    number: u64,
    again: Option<Instant>,
}

/// A token's place in the module.
pub(super) struct Seat {
    number: u32,
    state: Mutex<SeatState>,
    lanes: Vec<Mutex<Option<Lane>>>,
}

struct SeatState {
    uri: Uri,
    pin: Pin,
    pin_refused: Option<TokenError>,
    template: UnwrapTemplate,
    open: Option<(Slot, Session)>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Module {
    pub(super) fn load(
        path: PathBuf,
        parameters: Option<&str>,
        rejected: Box<dyn Fn(u32, TokenError) + Send + Sync>,
    ) -> Result<Self, TokenError> {
        let fault = |what: String| TokenError::Module { module: path.clone(), what };
        let parameters = parameters.map(CString::new).transpose().map_err(|e| fault(format!("its parameters: {e}")))?;
        let context = Pkcs11::new(&path).map_err(|e| fault(e.to_string()))?;
        let raw = RawModule::load(&path).map_err(fault)?;
        initialize(&context, parameters.as_ref())
            .map_err(|e| fault(format!("it does not initialise ({e}); is its token directory in place")))?;
        let epoch = Epoch { number: 1, again: None };
        let gate = RwLock::new(epoch);
        let seats = Mutex::default();
        Ok(Self { path, parameters, context, raw: Arc::new(raw), gate, seats, rejected })
    }

    pub(super) fn path(&self) -> &std::path::Path {
        &self.path
    }

    /// Finds the token and logs in, once; gives its seat.
    pub(super) fn attach(
        &self,
        number: u32,
        uri: Uri,
        pin: Pin,
        lanes: u16,
        template: UnwrapTemplate,
        unresolved: bool,
    ) -> Result<Arc<Seat>, TokenError> {
        let name = uri.to_string();
        let known = locked(&self.seats).get(&number).cloned();
        let seat = match known {
            // Attached before: its sessions stay, and only what may have changed is taken over.
            Some(seat) => {
                let mut state = locked(&seat.state);
                (state.uri, state.pin, state.pin_refused, state.template) = (uri, pin, None, template);
                drop(state);
                seat
            }
            None => {
                let state = SeatState { uri, pin, pin_refused: None, template, open: None };
                let lanes = (0..lanes).map(|_| Mutex::default()).collect();
                Arc::new(Seat { number, state: Mutex::new(state), lanes })
            }
        };
        let open = || {
            let _gate = self.gate.read().unwrap_or_else(PoisonError::into_inner);
            seat.open(&self.context, unresolved)
        };
        let opened = match open() {
            // A token that was connected, or whose directory came back, may show only to a module that starts again.
            Err(fault)
                if Rung::for_fault(&fault).is_some()
                    || matches!(fault, Fault::Typed(TokenError::TokenMissing { .. })) =>
            {
                tracing::warn!(fault = fault.text(), "the token does not open; initialising the module again");
                self.initialize_again(None).and_then(|()| open())
            }
            other => other,
        };
        opened.map_err(|f| f.plain(&name))?;
        locked(&self.seats).insert(number, Arc::clone(&seat));
        Ok(seat)
    }

    /// Whether the module was initialised again just now, and other tokens of it are open.
    fn searched_lately(&self, number: u32) -> bool {
        let gate = self.gate.read().unwrap_or_else(PoisonError::into_inner);
        gate.again.is_some_and(|again| again.elapsed() < BETWEEN_SEARCHES)
            && locked(&self.seats).values().any(|seat| seat.number != number && seat.slot().is_some())
    }

    /// Runs `op` once: for what must not be repeated.
    pub(super) fn once<T>(
        &self,
        seat: &Seat,
        lane: u16,
        op: impl Fn(&mut Lane) -> Result<T, Fault>,
    ) -> Result<T, TokenError> {
        self.attempt(seat, lane, &op).1.map_err(|f| f.plain(&seat.name()))
    }

    /// Runs `op`, climbing the ladder while that may help. `canary` is a wrapping that has to work if the token does.
    pub(super) fn run<T>(
        &self,
        seat: &Seat,
        lane: u16,
        canary: Option<&WrapWith>,
        op: impl Fn(&mut Lane) -> Result<T, Fault>,
    ) -> Result<T, TokenError> {
        let mut rung: Option<Rung> = None;
        loop {
            let (epoch, result) = self.attempt(seat, lane, &op);
            let fault = match result {
                Ok(value) => return Ok(value),
                Err(fault) => fault,
            };
            if fault.ambiguous()
                && let Some(with) = canary
                && self.attempt(seat, lane, &|l: &mut Lane| l.make_data_key(std::slice::from_ref(with))).1.is_ok()
            {
                // One bad answer of a token that works condemns no wrapped key; the same answer again does.
                return match self.attempt(seat, lane, &op).1 {
                    Ok(value) => Ok(value),
                    Err(again) if again.ambiguous() => {
                        tracing::warn!(
                            fault = again.text(),
                            "the token works, so it is the wrapped key that it does not take"
                        );
                        Err(TokenError::TamperedBlob { kek: with.kek })
                    }
                    Err(other) => Err(other.plain(&seat.name())),
                };
            }
            let Some(wanted) = Rung::for_fault(&fault) else { return Err(fault.plain(&seat.name())) };
            if matches!(fault, Fault::Typed(_)) && self.searched_lately(seat.number) {
                return Err(fault.plain(&seat.name()));
            }
            let next = match rung {
                None => wanted,
                Some(last) => match last.above() {
                    Some(above) => above.max(wanted),
                    None => return Err(fault.plain(&seat.name())),
                },
            };
            tracing::warn!(fault = fault.text(), rung = ?next, "token operation failed; recovering");
            rung = Some(next);
            if let Err(fault) = self.recover(seat, lane, next, epoch) {
                let rejected =
                    matches!(fault, Fault::Typed(TokenError::PinIncorrect) | Fault::Rv(RvError::PinIncorrect, _));
                if next == Rung::Initialize || rejected {
                    return Err(fault.plain(&seat.name()));
                }
                rung = Some(Rung::Initialize);
                self.initialize_again(Some(epoch)).map_err(|f| f.plain(&seat.name()))?;
            }
        }
    }

    fn attempt<T>(
        &self,
        seat: &Seat,
        lane: u16,
        op: &impl Fn(&mut Lane) -> Result<T, Fault>,
    ) -> (Epoch, Result<T, Fault>) {
        let epoch = self.gate.read().unwrap_or_else(PoisonError::into_inner);
        let result = seat.lane(lane).and_then(|mut place| {
            let lane = match place.take() {
                Some(lane) => lane,
                None => seat.new_lane(&self.context, &self.raw)?,
            };
            op(place.insert(lane))
        });
        (*epoch, result)
    }

    fn recover(&self, seat: &Seat, lane: u16, rung: Rung, epoch: Epoch) -> Result<(), Fault> {
        if rung == Rung::Initialize {
            return self.initialize_again(Some(epoch));
        }
        let now = self.gate.read().unwrap_or_else(PoisonError::into_inner);
        if now.number != epoch.number {
            return Ok(());
        }
        let mut place = seat.lane(lane)?;
        match rung {
            Rung::FindAgain => {
                if let Some(lane) = place.as_mut() {
                    lane.forget();
                }
            }
            // The next attempt opens another.
            Rung::NewSession => drop(place.take()),
            Rung::Login | Rung::Initialize => {
                place.take();
                seat.log_in_again(&self.context)?;
            }
        }
        Ok(())
    }

    /// Finalizes and initialises the module, and logs in to its tokens, unless another lane has done so since `epoch`.
    fn initialize_again(&self, epoch: Option<Epoch>) -> Result<(), Fault> {
        let mut gate = self.gate.write().unwrap_or_else(PoisonError::into_inner);
        if epoch.is_some_and(|e| e.number != gate.number) {
            return Ok(());
        }
        let seats: Vec<Arc<Seat>> = locked(&self.seats).values().cloned().collect();
        for seat in &seats {
            for lane in &seat.lanes {
                locked(lane).take();
            }
            locked(&seat.state).open = None;
        }
        // A module that lost its token may refuse even this; initialising decides.
        if let Err(e) = self.context.clone().finalize() {
            tracing::warn!("C_Finalize: {e}");
        }
        *gate = Epoch { number: gate.number + 1, again: Some(Instant::now()) };
        initialize(&self.context, self.parameters.as_ref()).map_err(|e| {
            tracing::error!("C_Initialize: {e}");
            rv(RvError::TokenNotPresent)
        })?;
        for seat in &seats {
            if let Err(fault) = seat.open(&self.context, false) {
                let error = fault.plain(&seat.name());
                tracing::error!("after initialising the module again: {error}");
                // Its own operations try again, but not with a rejected PIN.
                if matches!(error, TokenError::PinIncorrect | TokenError::PinLocked) {
                    (self.rejected)(seat.number, error);
                }
            }
        }
        Ok(())
    }

    /// All mechanisms of the token, by number.
    pub(super) fn mechanisms(&self, seat: &Seat) -> Result<Vec<u64>, Fault> {
        let slot = locked(&seat.state).open.as_ref().map(|(slot, _)| *slot);
        let slot = slot.ok_or(RvError::SlotIdInvalid).map_err(rv)?;
        self.raw.mechanisms(slot.id()).map_err(|e| raw_fault("C_GetMechanismList", e).into())
    }
}

impl Seat {
    pub(super) fn name(&self) -> String {
        locked(&self.state).uri.to_string()
    }

    /// The token's slot, while it is open.
    pub(super) fn slot(&self) -> Option<Slot> {
        locked(&self.state).open.as_ref().map(|(slot, _)| *slot)
    }

    fn lane(&self, lane: u16) -> Result<MutexGuard<'_, Option<Lane>>, Fault> {
        let unknown = || TokenError::Worker { what: format!("there is no lane {lane}") };
        Ok(locked(self.lanes.get(usize::from(lane)).ok_or_else(unknown)?))
    }

    /// A session of its own, with the token open first.
    fn new_lane(&self, context: &Pkcs11, raw: &Arc<RawModule>) -> Result<Lane, Fault> {
        let (slot, template) = {
            let state = locked(&self.state);
            (state.open.as_ref().map(|(slot, _)| *slot), state.template)
        };
        let slot = match slot {
            Some(slot) => slot,
            None => {
                self.open(context, false)?;
                self.slot().ok_or(RvError::SlotIdInvalid).map_err(rv)?
            }
        };
        Ok(Lane::new(context.open_rw_session(slot)?, Arc::clone(raw), template))
    }

    /// Finds the token, opens its anchor and logs in.
    fn open(&self, context: &Pkcs11, unresolved: bool) -> Result<(), Fault> {
        let mut state = locked(&self.state);
        if state.open.is_some() {
            return Ok(());
        }
        let slot = find_slot(context, &state.uri)?;
        let info = context.get_token_info(slot)?;
        if info.user_pin_locked() {
            return Err(TokenError::PinLocked.into());
        }
        if info.user_pin_final_try() {
            return Err(TokenError::PinFinalTry.into());
        }
        if unresolved && info.user_pin_count_low() {
            return Err(TokenError::PinInDoubt.into());
        }
        let anchor = context.open_rw_session(slot)?;
        state.log_in(&anchor)?;
        state.open = Some((slot, anchor));
        Ok(())
    }

    /// Logs in again: in the anchor while it lives, else in a new one.
    fn log_in_again(&self, context: &Pkcs11) -> Result<(), Fault> {
        let mut state = locked(&self.state);
        if let Some((slot, anchor)) = state.open.take()
            && state.log_in(&anchor).is_ok()
        {
            state.open = Some((slot, anchor));
            return Ok(());
        }
        drop(state);
        self.open(context, false)
    }
}

impl SeatState {
    fn log_in(&mut self, session: &Session) -> Result<(), Fault> {
        if let Some(refused) = &self.pin_refused {
            return Err(refused.clone().into());
        }
        let refused = match session.login(UserType::User, Some(&auth_pin(&self.pin)?)) {
            Ok(()) | Err(CkError::Pkcs11(RvError::UserAlreadyLoggedIn, _)) => return Ok(()),
            Err(CkError::Pkcs11(RvError::PinIncorrect | RvError::PinInvalid | RvError::PinLenRange, _)) => {
                TokenError::PinIncorrect
            }
            Err(CkError::Pkcs11(RvError::PinLocked, _)) => TokenError::PinLocked,
            Err(e) => return Err(e.into()),
        };
        self.pin_refused = Some(refused.clone());
        Err(refused.into())
    }
}

fn initialize(context: &Pkcs11, parameters: Option<&CString>) -> Result<(), CkError> {
    match sys::initialize(context, parameters) {
        Ok(()) | Err(CkError::Pkcs11(RvError::CryptokiAlreadyInitialized, _)) => Ok(()),
        Err(e) => Err(e),
    }
}

/// `cryptoki` takes a PIN as its own wiped string; made with its exact size, so that no copy is left behind by growth.
pub(super) fn auth_pin(pin: &Pin) -> Result<AuthPin, TokenError> {
    let text = std::str::from_utf8(pin.expose()).map_err(|e| TokenError::Worker { what: e.to_string() })?;
    Ok(AuthPin::from(Box::<str>::from(text)))
}

fn find_slot(context: &Pkcs11, uri: &Uri) -> Result<Slot, Fault> {
    let mut matches = Vec::new();
    for slot in context.get_slots_with_token()? {
        let Ok(info) = context.get_token_info(slot) else { continue };
        let same = |wanted: &Option<String>, has: &str| wanted.as_deref().is_none_or(|w| w == has);
        if info.token_initialized()
            && same(&uri.token, info.label())
            && same(&uri.serial, info.serial_number())
            && same(&uri.manufacturer, info.manufacturer_id())
            && same(&uri.model, info.model())
            && uri.slot_id.is_none_or(|id| id == slot.id())
        {
            matches.push(slot);
        }
    }
    match matches.as_slice() {
        [slot] => Ok(*slot),
        [] => Err(TokenError::TokenMissing { uri: uri.to_string() }.into()),
        several => Err(TokenError::TokenAmbiguous { uri: uri.to_string(), count: several.len() }.into()),
    }
}
